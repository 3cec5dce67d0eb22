variable "project" {
  description = "The project that pays."
  type        = string
}

variable "region" {
  description = "One region for everything: traffic between regions is paid for."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "The first part of every name."
  type        = string
  default     = "headwater"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "Lower-case letters, digits and hyphens, at most 22."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace whose accounts act as the accounts here; as in cluster.toml."
  type        = string
  default     = "headwater"
}

variable "bronze_retention_days" {
  description = "Days until an object of bronze is deleted; null keeps all. A rebuild can only read the remaining objects."
  type        = number
  default     = null
  validation {
    condition     = var.bronze_retention_days == null ? true : var.bronze_retention_days >= 30
    error_message = "At least 30 days: a rebuild has nothing else to read."
  }
}

variable "administrators" {
  description = "Networks from which the cluster's API server may be asked."
  type        = map(string)
  validation {
    condition     = !contains(values(var.administrators), "0.0.0.0/0")
    error_message = "Not the whole internet."
  }
}

variable "nodes" {
  description = "Machine type, and how many a zone; `./headwater size` computes both."
  type = object({
    machine_type = string
    disk_gb      = number
    min_a_zone   = number
    max_a_zone   = number
  })
  default = {
    machine_type = "n2-standard-8"
    disk_gb      = 100
    min_a_zone   = 1
    max_a_zone   = 3
  }
}

variable "database" {
  description = "The source; null if it is elsewhere."
  type = object({
    version = string
    tier    = string
    disk_gb = number
  })
  default = {
    version = "POSTGRES_16"
    tier    = "db-custom-4-16384"
    disk_gb = 100
  }
}
