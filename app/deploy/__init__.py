"""What a deployment on several machines needs: its size, its manifests, its bill of materials."""
