"""A plugin with one record of each kind."""
