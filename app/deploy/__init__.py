"""What a deployment past one machine needs: its size, its manifests, its bill of materials."""
