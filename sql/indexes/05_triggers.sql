-- Triggers that keep derived columns and rows for SQL other than the origin's own. Their functions are those of schema
-- service and name the tables of schema shop; the statements here run before a load's tables take that place.

create trigger fill_product_id before insert on skus for each row when (new.product_id is null) execute function service.fill_from_style();
create trigger fill_product_id before insert on photos for each row when (new.product_id is null) execute function service.fill_from_style();
create trigger fill_product_id before insert on review_photos for each row when (new.product_id is null) execute function service.fill_from_review();
create trigger fill_product_id before insert on characteristic_reviews for each row when (new.product_id is null) execute function service.fill_from_review();
create trigger fill_product_id before insert on answers for each row when (new.product_id is null) execute function service.fill_from_question();
create trigger fill_product_id before insert on answer_photos for each row when (new.product_id is null or new.question_id is null) execute function service.fill_from_answer();

create trigger follow_parent before update of style_id on skus for each row execute function service.fill_from_style();
create trigger follow_parent before update of style_id on photos for each row execute function service.fill_from_style();
create trigger follow_parent before update of review_id on review_photos for each row execute function service.fill_from_review();
create trigger follow_parent before update of review_id on characteristic_reviews for each row execute function service.fill_from_review();
create trigger follow_parent before update of question_id on answers for each row execute function service.fill_from_question();
create trigger follow_parent before update of answer_id on answer_photos for each row execute function service.fill_from_answer();

create trigger move_children after update of product_id on styles for each row when (old.product_id <> new.product_id) execute function service.move_children();
create trigger move_children after update of product_id on reviews for each row when (old.product_id <> new.product_id) execute function service.move_children();
create trigger move_children after update of product_id on questions for each row when (old.product_id <> new.product_id) execute function service.move_children();
create trigger move_children after update on answers for each row when (old.product_id <> new.product_id or old.question_id <> new.question_id) execute function service.move_children();

create trigger fill_related_exists before insert or update of related_id on related for each row execute function service.fill_related_exists();
create trigger keep_catalogue after insert or delete or update of id on products for each row execute function service.on_product();
create trigger clear_product_counts after truncate on products for each statement execute function service.on_product_truncate();

-- Not in transactions that marked themselves, as the triggers that tell caches (coherence.sql, which says why it is spelled out).
create trigger keep_review_meta after insert or delete or update of product_id, rating, recommend on reviews for each row when (current_setting('coherence.marked', true) is distinct from coalesce(pg_current_xact_id_if_assigned()::text, '-')) execute function service.on_review();
create trigger keep_review_meta after insert or delete or update of product_id, characteristic_id, value on characteristic_reviews for each row when (current_setting('coherence.marked', true) is distinct from coalesce(pg_current_xact_id_if_assigned()::text, '-')) execute function service.on_characteristic_review();
create trigger keep_review_meta after insert or delete or update of id, product_id, name on characteristics for each row execute function service.on_characteristic();
create trigger refresh_review_meta after truncate on reviews for each statement execute function service.on_review_truncate();
create trigger refresh_review_meta after truncate on characteristics for each statement execute function service.on_review_truncate();
create trigger refresh_review_meta after truncate on characteristic_reviews for each statement execute function service.on_review_truncate();

create trigger keep_ranks after insert or update of product_id, date, helpfulness, reported on reviews for each row when (current_setting('coherence.marked', true) is distinct from coalesce(pg_current_xact_id_if_assigned()::text, '-')) execute function service.on_ranked_review();
create trigger keep_ranks after insert or update of product_id, date, helpfulness, reported on questions for each row when (current_setting('coherence.marked', true) is distinct from coalesce(pg_current_xact_id_if_assigned()::text, '-')) execute function service.on_ranked_question();
