"""Problems of connectors and disks, judged in one place for all that show them."""
