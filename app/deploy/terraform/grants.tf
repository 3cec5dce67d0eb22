# An account for each that asks the store, with what it needs of each bucket and nothing of the project.
locals {
  # Account → its role in bronze, its role in the lake; null for none. The Kubernetes account has the same name.
  programs = {
    connect  = { bronze = "write-once", lake = null }
    silver   = { bronze = "read", lake = "write" } # it reads what Kafka has dropped
    streams  = { bronze = null, lake = "write" }
    tables   = { bronze = null, lake = "write" } # Trino's catalog
    trino    = { bronze = null, lake = "write" } # views, and its exchange
    capture  = { bronze = "read", lake = "write" }
    metrics  = { bronze = "read", lake = "read" }
    app      = { bronze = "read", lake = "write" } # edits of quarantine
    verifier = { bronze = "read", lake = "write" } # its verdicts
    readers  = { bronze = null, lake = "read" }
  }
  # The sink may create and read. Google asks for the right to delete of whoever replaces an object: without
  # it a second writer cannot, whatever the request says.
  roles = {
    "write-once" = ["roles/storage.objectCreator", "roles/storage.objectViewer"]
    "read"       = ["roles/storage.objectViewer"]
    "write"      = ["roles/storage.objectUser"]
  }
  grants = merge([
    for program, buckets in local.programs : {
      for grant in flatten([
        for bucket, kind in buckets : [
          for role in(kind == null ? [] : local.roles[kind]) : {
            program = program
            bucket  = bucket
            role    = role
          }
        ]
      ]) : "${grant.program} ${grant.bucket} ${grant.role}" => grant
    }
  ]...)
}
