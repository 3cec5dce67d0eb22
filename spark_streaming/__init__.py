"""Events into correct tables: contracts, decoding, folding and merging into silver."""
