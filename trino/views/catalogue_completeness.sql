-- view: reports.catalogue_completeness
-- question: What does the catalogue say of its movies, and of how many does it not?
-- reads: silver.movies, silver.movie_genres, silver.ratings, silver.tags
-- columns:
--   attribute  varchar: tagline, description, release_year, released_on, runtime_minutes,
--              languages, imdb_id, tmdb_id, genres, tags, ratings
--   movies     bigint, all movies
--   filled     bigint, movies that have it (an empty text or list does not count)
--   missing    bigint, movies that have not
--   percent    decimal(7, 4), filled of all; NULL while there are no movies
SELECT
  attribute,
  movies,
  filled,
  movies - filled AS missing,
  CAST(100 * CAST(filled AS decimal(18, 8)) / nullif(movies, 0) AS decimal(7, 4)) AS percent
FROM (
  SELECT
    count(*) AS movies,
    count_if(movies.tagline <> '') AS tagline,
    count_if(movies.description <> '') AS description,
    count(movies.release_year) AS release_year,
    count(movies.released_on) AS released_on,
    count(movies.runtime_minutes) AS runtime_minutes,
    count_if(cardinality(movies.languages) > 0) AS languages,
    count(movies.imdb_id) AS imdb_id,
    count(movies.tmdb_id) AS tmdb_id,
    count(in_genres.movie_id) AS genres,
    count(in_tags.movie_id) AS tags,
    count(in_ratings.movie_id) AS ratings
  FROM silver.movies
  LEFT JOIN (SELECT DISTINCT movie_id FROM silver.movie_genres) AS in_genres
    ON in_genres.movie_id = movies.movie_id
  LEFT JOIN (SELECT DISTINCT movie_id FROM silver.tags) AS in_tags
    ON in_tags.movie_id = movies.movie_id
  LEFT JOIN (SELECT DISTINCT movie_id FROM silver.ratings) AS in_ratings
    ON in_ratings.movie_id = movies.movie_id
) AS counted
CROSS JOIN UNNEST(
  ARRAY[
    'tagline', 'description', 'release_year', 'released_on', 'runtime_minutes', 'languages',
    'imdb_id', 'tmdb_id', 'genres', 'tags', 'ratings'
  ],
  ARRAY[
    tagline, description, release_year, released_on, runtime_minutes, languages,
    imdb_id, tmdb_id, genres, tags, ratings
  ]
) AS attributes (attribute, filled)
