-- Whether a task waited when its user asked to stop it by its status: then nobody holds it.
alter table unstuck.observed add column withdrawn boolean not null default false;
