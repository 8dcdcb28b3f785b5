"""Image sources and the endless global stream over them."""
