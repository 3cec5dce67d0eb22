"""What a source table promises: types, key, contract files, and the contracts kept in the lake."""
