-- Several installations (stages, bundles) in one database: whose run it is, and whose watch.
alter table unstuck.sweeps add column installation text not null default '';
alter table if exists unstuck.migrations add column installation text not null default '';
