-- The trace of the request that claimed the attempt, 32 hex digits: with it the platform finds all
-- lines that were logged meanwhile, its own too.
alter table unstuck.attempts add column trace text;
