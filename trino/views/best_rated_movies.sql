-- view: reports.best_rated_movies
-- question: Of the thousand most-rated movies, which hundred are rated best?
-- reads: reports.most_rated_movies
-- columns:
--   rank           bigint, 1 is the best; equal means are ranked by ratings, then by movie_id
--   movie_id       bigint
--   title          varchar
--   release_year   smallint
--   average_stars  decimal(12, 4)
--   ratings        bigint, number of ratings
SELECT
  row_number() OVER (ORDER BY average_stars DESC, ratings DESC, movie_id) AS rank,
  movie_id,
  title,
  release_year,
  average_stars,
  ratings
FROM reports.most_rated_movies
ORDER BY average_stars DESC, ratings DESC, movie_id
LIMIT 100
