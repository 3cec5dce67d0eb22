"""Reading events: from Kafka, or from bronze where Kafka has expired them."""
