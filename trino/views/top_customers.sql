-- view: reports.top_customers
-- question: Which hundred customers have paid the most?
-- reads: silver.customers, silver.orders, silver.invoices, silver.payments
-- columns:
--   rank          bigint, 1 is the best; equal sums are ranked by customer_id
--   customer_id   bigint
--   full_name     varchar
--   country       varchar, two letters
--   orders        bigint, orders that were paid, wholly or in part
--   revenue       decimal, what was paid, tax included
--   last_paid_at  timestamp with time zone
SELECT
  row_number() OVER (ORDER BY paid.revenue DESC, paid.customer_id) AS rank,
  paid.customer_id,
  customers.full_name,
  customers.country,
  paid.orders,
  paid.revenue,
  paid.last_paid_at
FROM (
  SELECT
    orders.customer_id,
    count(DISTINCT orders.order_id) AS orders,
    sum(payments.amount) AS revenue,
    max(payments.paid_at) AS last_paid_at
  FROM silver.payments
  JOIN silver.invoices ON invoices.invoice_number = payments.invoice_number
  JOIN silver.orders ON orders.order_id = invoices.order_id
  GROUP BY orders.customer_id
) AS paid
JOIN silver.customers ON customers.customer_id = paid.customer_id
ORDER BY paid.revenue DESC, paid.customer_id
LIMIT 100
