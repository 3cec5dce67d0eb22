"""Erases one row's data from every store of the stack, with a receipt."""
