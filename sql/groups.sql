-- Which cache groups a change of the shop's tables touches. Names are those of the API's cache groups; a review's report
-- does not change the ratings, so only the columns that meta counts touch its group.

select coherence.watch('shop.products', 'product-{id}');
select coherence.watch('shop.products', 'products',
       array['id', 'name', 'slogan', 'description', 'category', 'default_price', 'created_at', 'updated_at']);
select coherence.watch('shop.products', 'product-ids', array['id']);
select coherence.watch('shop.features', 'product-{product_id}');
select coherence.watch('shop.styles', 'product-{product_id}');
select coherence.watch('shop.skus', 'product-{product_id}');
select coherence.watch('shop.photos', 'product-{product_id}');
select coherence.watch('shop.related', 'product-{product_id}');
select coherence.watch('shop.reviews', 'product-{product_id}-reviews');
select coherence.watch('shop.reviews', 'product-{product_id}-meta', array['product_id', 'rating', 'recommend']);
select coherence.watch('shop.review_photos', 'product-{product_id}-reviews');
select coherence.watch('shop.review_meta', 'product-{product_id}-meta');
select coherence.watch('shop.questions', 'product-{product_id}-questions');
select coherence.watch('shop.answers', 'product-{product_id}-questions');
select coherence.watch('shop.answers', 'question-{question_id}-answers');
select coherence.watch('shop.answer_photos', 'product-{product_id}-questions');
select coherence.watch('shop.answer_photos', 'question-{question_id}-answers');
select coherence.install();
