# Secrets without values, because a value here would be in the state. `python -m app.deploy home`
# writes the files; `gcloud secrets versions add NAME --data-file=FILE` puts them in.
resource "google_secret_manager_secret" "home" {
  for_each  = toset(["settings", "secrets", "variables"])
  secret_id = "${var.name}-${each.value}"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.used]
}

# Whoever brings them into the cluster (an operator for external secrets) reads these three, and nothing else.
resource "google_service_account" "secrets" {
  account_id   = "${var.name}-secrets"
  display_name = "Headwater: reads the stack's secrets"
}

resource "google_secret_manager_secret_iam_member" "secrets" {
  for_each  = google_secret_manager_secret.home
  secret_id = each.value.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.secrets.member
}
