# One program asks the store: the service `s3`, which speaks S3 to all the others.
locals {
  # Account → its role in bronze, its role in the lake; null for none. The Kubernetes account has the same name.
  programs = {
    s3 = { bronze = "write-once", lake = "write" }
  }
  # What is bronze may be created and read. In Google Cloud Storage, replacing an object needs the right to delete, so
  # without it no request can replace one. Only notes and probes, below `_headwater/`, come and go.
  # Each may ask whether a bucket keeps versions.
  roles = {
    "write-once" = [
      { role = "roles/storage.legacyBucketReader", below = null },
      { role = "roles/storage.objectCreator", below = null },
      { role = "roles/storage.objectViewer", below = null },
      { role = "roles/storage.objectUser", below = "_headwater/" },
    ]
    "write" = [
      { role = "roles/storage.legacyBucketReader", below = null },
      { role = "roles/storage.objectUser", below = null },
    ]
  }
  grants = merge([
    for program, buckets in local.programs : {
      for grant in flatten([
        for bucket, kind in buckets : [
          for given in(kind == null ? [] : local.roles[kind]) : {
            program = program
            bucket  = bucket
            role    = given.role
            below   = given.below
          }
        ]
      ]) : "${grant.program} ${grant.bucket} ${grant.role}" => grant
    }
  ]...)
}
