-- References, checked after COPY and the indexes they need. None goes from reviews, characteristics or questions to
-- products: those may be loaded without a catalogue, and each write would otherwise lock the product's row.

alter table features add constraint features_product_id_fkey foreign key (product_id) references products (id) on delete cascade;
alter table styles add constraint styles_product_id_fkey foreign key (product_id) references products (id) on delete cascade;
alter table related add constraint related_product_id_fkey foreign key (product_id) references products (id) on delete cascade;
alter table skus add constraint skus_style_id_fkey foreign key (style_id) references styles (id) on delete cascade;
alter table photos add constraint photos_style_id_fkey foreign key (style_id) references styles (id) on delete cascade;
alter table review_photos add constraint review_photos_review_id_fkey foreign key (review_id) references reviews (id) on delete cascade;
alter table characteristic_reviews add constraint characteristic_reviews_review_id_fkey foreign key (review_id) references reviews (id) on delete cascade;
alter table characteristic_reviews add constraint characteristic_reviews_characteristic_id_fkey foreign key (characteristic_id) references characteristics (id) on delete cascade;
alter table answers add constraint answers_question_id_fkey foreign key (question_id) references questions (id) on delete cascade;
alter table answer_photos add constraint answer_photos_answer_id_fkey foreign key (answer_id) references answers (id) on delete cascade;
alter table review_ranks add constraint review_ranks_review_id_fkey foreign key (review_id) references reviews (id) on delete cascade on update cascade;
alter table question_ranks add constraint question_ranks_question_id_fkey foreign key (question_id) references questions (id) on delete cascade on update cascade;
