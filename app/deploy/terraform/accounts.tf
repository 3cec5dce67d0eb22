locals {
  buckets = {
    bronze = google_storage_bucket.bronze.name
    lake   = google_storage_bucket.lake.name
  }
}

resource "google_service_account" "programs" {
  for_each     = local.programs
  account_id   = "${var.name}-${each.key}"
  display_name = "Headwater: ${each.key}"
}

resource "google_storage_bucket_iam_member" "programs" {
  for_each = local.grants
  bucket   = local.buckets[each.value.bucket]
  role     = each.value.role
  member   = google_service_account.programs[each.value.program].member

  dynamic "condition" {
    for_each = each.value.below == null ? [] : [each.value.below]
    content {
      title      = "below ${condition.value}"
      expression = "resource.name.startsWith(\"projects/_/buckets/${local.buckets[each.value.bucket]}/objects/${condition.value}\")"
    }
  }
}

resource "google_service_account_iam_member" "pods" {
  for_each           = local.programs
  service_account_id = google_service_account.programs[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${each.key}]"
  depends_on         = [google_container_cluster.main]
}

# The nodes: logs, metrics, images.
resource "google_service_account" "nodes" {
  account_id   = "${var.name}-nodes"
  display_name = "Headwater: nodes"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset([
    "roles/artifactregistry.reader",
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/stackdriver.resourceMetadata.writer",
  ])
  project = var.project
  role    = each.value
  member  = google_service_account.nodes.member
}
