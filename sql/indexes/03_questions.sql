-- Keys and indexes of questions and answers, built after COPY. No index names helpfulness.

alter table questions add constraint questions_pkey primary key (id);
alter table answers add constraint answers_pkey primary key (id);
alter table answer_photos add constraint answer_photos_pkey primary key (id);

-- GET /qa/questions: the questions of one product, their answers and the answers' photos, each by one look-up.
create index questions_product_id_idx on questions (product_id);
create index answers_product_id_idx on answers (product_id);
create index answer_photos_product_id_idx on answer_photos (product_id);
-- GET /qa/questions/{id}/answers: the answers of one question.
create index answers_question_id_idx on answers (question_id);
-- Removal of an answer: its photos.
create index answer_photos_answer_id_idx on answer_photos (answer_id);
