-- view: reports.rating_distribution
-- question: How are the ratings spread over the stars?
-- reads: silver.ratings
-- columns:
--   stars    decimal(2, 1), 0.5 to 5.0; stars that nobody gave are absent
--   ratings  bigint
--   percent  decimal(7, 4), of all ratings
SELECT
  stars,
  count(*) AS ratings,
  CAST(100 * CAST(count(*) AS decimal(18, 8)) / sum(count(*)) OVER () AS decimal(7, 4)) AS percent
FROM silver.ratings
GROUP BY stars
