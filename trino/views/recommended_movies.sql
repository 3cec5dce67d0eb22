-- view: reports.recommended_movies
-- question: Which ten movies does the newest run of the job `recommend` offer each customer?
-- reads: ml.recommended_movies, silver.movies
-- columns:
--   customer_id      bigint
--   rank             integer, 1 is the best
--   movie_id         bigint, a movie that the customer has neither rated nor bought
--   title            varchar; NULL where the movie is gone
--   score            double, of the list's own method: it orders a list, and says nothing beyond it
--   predicted_stars  double; NULL for a movie without ratings
--   method           varchar: als; most popular, for a customer of whom nothing is known
SELECT
  list.customer_id,
  list.rank,
  list.movie_id,
  movie.title,
  list.score,
  list.predicted_stars,
  list.method
FROM ml.recommended_movies AS list
LEFT JOIN silver.movies AS movie ON movie.movie_id = list.movie_id
