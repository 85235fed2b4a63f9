terraform {
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

variable "project" {
  type = string
}

variable "region" {
  type    = string
  default = "europe-west1"
}

variable "image" {
  type        = string
  description = "The image of this directory, in your Artifact Registry"
}

provider "google" {
  project = var.project
  region  = var.region
}

resource "google_storage_bucket" "replica" {
  name                        = "${var.project}-grafana-replica"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  # Add no lifecycle rule that deletes: litevisor compacts and deletes its files itself.
}

resource "google_service_account" "grafana" {
  account_id = "grafana"
}

resource "google_storage_bucket_iam_member" "replica" {
  bucket = google_storage_bucket.replica.name
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_service_account.grafana.email}"
}

resource "google_cloud_run_v2_service" "grafana" {
  name     = "grafana"
  location = var.region
  ingress  = "INGRESS_TRAFFIC_ALL"

  template {
    service_account                  = google_service_account.grafana.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 0
      # One database, one writer.
      max_instance_count = 1
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      env {
        name  = "REPLICA_BUCKET"
        value = google_storage_bucket.replica.name
      }

      resources {
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
        # CPU also between requests: a commit is in the bucket within a second. See README.md.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 3
        failure_threshold = 48
        http_get {
          path = "/api/health"
        }
      }
    }
  }

  depends_on = [google_storage_bucket_iam_member.replica]
}

output "url" {
  value = google_cloud_run_v2_service.grafana.uri
}
