-- view: reports.prices_then
-- question: What were each day's orders worth at the list prices of their time, and what would they be at today's?
-- reads: silver.orders, silver.order_lines, silver.movies, history.movies
-- columns:
--   day         timestamp with time zone, start of the day in UTC on which the orders were placed
--   lines       bigint, lines whose movie had a known list price when the order was placed
--   paid        decimal, what these lines cost the customers
--   list_then   decimal, what they would have cost at the list prices of that time
--   list_now    decimal, and at the present ones
SELECT
  date_trunc('day', orders.placed_at) AS day,
  count(*) AS lines,
  sum(order_lines.quantity * order_lines.unit_price) AS paid,
  sum(order_lines.quantity * priced.price) AS list_then,
  sum(order_lines.quantity * movies.price) AS list_now
FROM silver.order_lines
JOIN silver.orders ON orders.order_id = order_lines.order_id
JOIN history.movies AS priced
  ON priced.movie_id = order_lines.movie_id
  AND priced._valid_from <= orders.placed_at
  AND (orders.placed_at < priced._valid_to OR priced._valid_to IS NULL)
LEFT JOIN silver.movies AS movies ON movies.movie_id = order_lines.movie_id
GROUP BY date_trunc('day', orders.placed_at)
