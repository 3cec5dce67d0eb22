-- view: reports.default_risk
-- question: Which unpaid bills are likely to stay so, by the newest run of the job `default_risk`?
-- reads: ml.default_risk
-- columns:
--   order_id     bigint, the order that the bill belongs to
--   customer_id  bigint
--   chance       double, 0 to 1, that it is not paid within 30 days after it is due
--   reasons      varchar, what raises the chance most, the strongest first; NULL where nothing does
--   method       varchar: logistic regression or gradient boosting
--   as_of        timestamp(6) with time zone, of the order: what was known then counts
--   scored_at    timestamp(6) with time zone
SELECT order_id, customer_id, chance, reasons, method, as_of, scored_at
FROM ml.default_risk
