-- A release's version as text whose byte order is semver's precedence, so that a channel's pointer can move up only, in one
-- statement. Releases from before have the lowest order: any next one is higher.
alter table releases add column version_order text collate "C" not null default '';
