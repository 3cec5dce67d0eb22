-- view: reports.best_rated_movies
-- question: Of the thousand most-rated movies, which hundred are rated best?
-- reads: reports.most_rated_movies
-- columns:
--   rank            bigint, 1 is the best; equal weighted means are ranked by ratings, then by movie_id
--   movie_id        bigint
--   title           varchar
--   release_year    smallint
--   average_stars   decimal(12, 4), the mean of the movie's own ratings
--   weighted_stars  decimal(12, 4), the mean with ten more ratings at the mean of all these movies:
--                   a Bayesian mean, so that one rating of five stars does not lead
--   ratings         bigint, number of ratings
WITH overall AS (
  SELECT
    CAST(sum(average_stars * ratings) AS decimal(26, 4)) / CAST(sum(ratings) AS decimal(12, 0))
      AS average_stars
  FROM reports.most_rated_movies
),
weighted AS (
  SELECT
    movie.movie_id,
    movie.title,
    movie.release_year,
    movie.average_stars,
    CAST(
      CAST(movie.average_stars * movie.ratings + 10 * overall.average_stars AS decimal(26, 4))
        / CAST(movie.ratings + 10 AS decimal(12, 0))
      AS decimal(12, 4)
    ) AS weighted_stars,
    movie.ratings
  FROM reports.most_rated_movies AS movie
  CROSS JOIN overall
)
SELECT
  row_number() OVER (ORDER BY weighted_stars DESC, ratings DESC, movie_id) AS rank,
  movie_id,
  title,
  release_year,
  average_stars,
  weighted_stars,
  ratings
FROM weighted
ORDER BY weighted_stars DESC, ratings DESC, movie_id
LIMIT 100
