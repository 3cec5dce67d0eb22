-- view: reports.most_rated_movies
-- question: Which thousand movies have the most ratings?
-- reads: silver.movies, silver.ratings
-- columns:
--   rank           bigint, 1 has the most ratings; equal counts are ranked by movie_id
--   movie_id       bigint
--   title          varchar
--   release_year   smallint
--   ratings        bigint, number of ratings
--   average_stars  decimal(12, 4), their mean
SELECT
  row_number() OVER (ORDER BY rated.ratings DESC, rated.movie_id) AS rank,
  rated.movie_id,
  movies.title,
  movies.release_year,
  rated.ratings,
  rated.average_stars
FROM (
  SELECT
    movie_id,
    count(*) AS ratings,
    -- The mean of decimals has their scale in Trino: one digit would not distinguish movies.
    avg(CAST(stars AS decimal(12, 4))) AS average_stars
  FROM silver.ratings
  GROUP BY movie_id
) AS rated
JOIN silver.movies ON movies.movie_id = rated.movie_id
ORDER BY rated.ratings DESC, rated.movie_id
LIMIT 1000
