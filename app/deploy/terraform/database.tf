# The source. `./headwater preflight --apply` makes roles and publication in it: a password here would be in the
# state.
resource "google_sql_database_instance" "source" {
  count            = var.database == null ? 0 : 1
  name             = "${var.name}-source"
  region           = var.region
  database_version = var.database.version

  deletion_protection = true

  settings {
    tier              = var.database.tier
    availability_type = "REGIONAL"
    disk_type         = "PD_SSD"
    disk_size         = var.database.disk_gb
    disk_autoresize   = true # a slot that nobody reads keeps the log

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.main.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
    }

    # What wal_level is elsewhere; a restart of the instance.
    database_flags {
      name  = "cloudsql.logical_decoding"
      value = "on"
    }

    database_flags {
      name  = "max_replication_slots"
      value = "10"
    }

    database_flags {
      name  = "max_wal_senders"
      value = "10"
    }
  }

  depends_on = [google_service_networking_connection.services]
}
