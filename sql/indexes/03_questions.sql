-- Keys and indexes of questions and answers, built after COPY. No index of a row names helpfulness.

alter table questions add constraint questions_pkey primary key (id);
alter table answers add constraint answers_pkey primary key (id);
alter table answer_photos add constraint answer_photos_pkey primary key (id);
alter table question_ranks add constraint question_ranks_pkey primary key (question_id);

-- GET /qa/questions: the questions of one product, their answers and the answers' photos, each by one look-up.
create index questions_product_id_idx on questions (product_id);
create index answers_product_id_idx on answers (product_id);
-- The photos of one question too, for GET /qa/questions/{id}/answers and the pages of a popular product.
create index answer_photos_product_id_question_id_idx on answer_photos (product_id, question_id);
-- GET /qa/questions of a popular product: the ids of a page in order, without their rows.
create index question_ranks_product_id_helpfulness_date_question_id_idx on question_ranks (product_id, helpfulness desc, date desc, question_id desc) where not reported;
-- GET /qa/questions/{id}/answers, and for each question of a popular product's page: the answers of one question.
create index answers_question_id_idx on answers (question_id);
-- Removal of an answer: its photos.
create index answer_photos_answer_id_idx on answer_photos (answer_id);
