-- view: reports.recommended_customers
-- question: Which ten customers does the newest run of the job `recommend` name for each movie?
-- reads: ml.recommended_customers
-- columns:
--   movie_id     bigint
--   rank         integer, 1 is the best
--   customer_id  bigint, a customer who has neither rated nor bought the movie
--   score        double: it orders a list, and says nothing beyond it
SELECT movie_id, rank, customer_id, score
FROM ml.recommended_customers
