output "buckets" {
  description = "bronze_bucket and lake_bucket of the profile."
  value       = local.buckets
}

output "cluster" {
  description = "gcloud container clusters get-credentials NAME --region REGION"
  value       = google_container_cluster.main.name
}

output "database_address" {
  description = "The host of the source's DSN; null if the source is elsewhere."
  value       = one(google_sql_database_instance.source[*].private_ip_address)
}

output "accounts" {
  description = "What each Kubernetes account is annotated with: iam.gke.io/gcp-service-account."
  value       = { for name, account in google_service_account.programs : name => account.email }
}
