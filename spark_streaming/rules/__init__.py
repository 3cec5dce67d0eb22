"""Contract rules applied to rows: conditions, uniqueness, references, masks."""
