"""What a release is made of: archive, bill of materials, checksums, notes."""
