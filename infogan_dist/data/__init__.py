"""Where images come from, and the endless global stream over them."""
