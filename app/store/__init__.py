"""The demo source: a movie store in Postgres, its seed, its workload and the MovieLens loader."""
