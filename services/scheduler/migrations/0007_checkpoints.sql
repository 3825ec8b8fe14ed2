-- The manifest in storage of what an attempt's member left in its folder of checkpoints.
alter table attempts add checkpoint_digest text;
