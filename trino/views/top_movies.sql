-- view: reports.top_movies
-- question: Which hundred movies did the newest run of the job `top_movies` rank best?
-- reads: ml.top_movies
-- columns:
--   rank            bigint, 1 is the best
--   movie_id        bigint
--   title           varchar
--   release_year    smallint
--   average_stars   decimal(12, 4), the mean of the movie's own ratings, in the table and the stream
--   weighted_stars  decimal(12, 4), the mean with ten more ratings at the mean of the thousand most-rated movies
--   ratings         bigint, number of ratings
SELECT rank, movie_id, title, release_year, average_stars, weighted_stars, ratings
FROM ml.top_movies
