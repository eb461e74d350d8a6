-- The service's own tables, and which groups of its answers each of their rows belongs to. sql/coherence.sql comes first.

create schema library;
create table library.books (id integer primary key, title text not null);
create table library.loans (book_id integer not null references library.books, reader text not null);

insert into library.books select n, 'Volume ' || n from generate_series(1, 100) as n;

select coherence.watch('library.books', 'book-{id}');
select coherence.watch('library.books', 'books', array['id', 'title']);
select coherence.watch('library.loans', 'book-{book_id}');
select coherence.install();
