-- Version 2: queues can be paused.

-- 1 while nobody is handed the jobs of the queue.
ALTER TABLE queue ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
