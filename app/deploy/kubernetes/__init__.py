"""The stack on Kubernetes: manifests rendered from the same descriptions and configuration files."""
