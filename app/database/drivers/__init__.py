"""SQLAlchemy over each driver, with every transaction fenced: its connection, its cursors, the wire beneath them."""
