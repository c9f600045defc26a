-- What the platform's log says of an attempt whose worker stopped without a word.
alter table unstuck.attempts add column evidence text;
