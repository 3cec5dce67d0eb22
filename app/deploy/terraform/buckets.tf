# Every event, raw, never changed: older ones are rarely read, and cheaper kept.
resource "google_storage_bucket" "bronze" {
  name                        = "${var.project}-${var.name}-bronze"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  lifecycle_rule {
    condition {
      age = 30
    }
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
  }

  lifecycle_rule {
    condition {
      age = 180
    }
    action {
      type          = "SetStorageClass"
      storage_class = "COLDLINE"
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.bronze_retention_days == null ? [] : [var.bronze_retention_days]
    content {
      condition {
        age = lifecycle_rule.value
      }
      action {
        type = "Delete"
      }
    }
  }

  # Parts of uploads that nobody completed, as the service `s3` keeps them.
  lifecycle_rule {
    condition {
      age            = 1
      matches_prefix = [".s3proxy/"]
    }
    action {
      type = "Delete"
    }
  }
}

# Delta tables and Trino's catalog. Maintenance deletes old versions itself: object versions, or soft deletion, would
# keep and bill every replaced file.
resource "google_storage_bucket" "lake" {
  name                        = "${var.project}-${var.name}-lake"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # What a query that was killed leaves of its exchange.
  lifecycle_rule {
    condition {
      age            = 2
      matches_prefix = ["exchange/"]
    }
    action {
      type = "Delete"
    }
  }

  # Parts of uploads that nobody completed, as the service `s3` keeps them.
  lifecycle_rule {
    condition {
      age            = 1
      matches_prefix = [".s3proxy/"]
    }
    action {
      type = "Delete"
    }
  }
}
