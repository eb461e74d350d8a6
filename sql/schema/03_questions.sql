-- Questions and answers.

create table questions (
  id          integer     not null,
  product_id  integer     not null,
  body        text        not null,
  date        timestamptz not null,
  asker_name  text        not null,
  asker_email text        not null,
  reported    boolean     not null,
  helpfulness integer     not null,
  constraint questions_id_check check (id > 0),
  constraint questions_helpfulness_check check (helpfulness >= 0)
) with (fillfactor = 90);

create table answers (
  id             integer     not null,
  question_id    integer     not null,
  product_id     integer     not null,
  body           text        not null,
  date           timestamptz not null,
  answerer_name  text        not null,
  answerer_email text        not null,
  reported       boolean     not null,
  helpfulness    integer     not null,
  constraint answers_id_check check (id > 0),
  constraint answers_helpfulness_check check (helpfulness >= 0)
) with (fillfactor = 90);

create table answer_photos (
  id          integer not null,
  answer_id   integer not null,
  question_id integer not null,
  product_id  integer not null,
  url         text    not null,
  constraint answer_photos_id_check check (id > 0)
);
