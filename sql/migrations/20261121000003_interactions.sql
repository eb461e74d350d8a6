-- No statement looks interactions up by time: the oldest are those with the lowest ids.

drop index service.interactions_created_at_idx;
