"""The interface between hosts: never the loopback, and never against the user's choice. `test_two_hosts.py` trains through it."""

from __future__ import annotations

from infogan_dist.distributed.interface import choose_interface, interface_to


def test_the_loopback_and_unknown_hosts_give_no_interface() -> None:
    for host in ("", "127.0.0.1", "no-such-host.invalid"):
        assert interface_to(host) is None


def test_the_choice_of_the_user_remains() -> None:
    environment = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "ib0"}
    choose_interface(environment)
    assert environment["GLOO_SOCKET_IFNAME"] == "ib0"
