-- Room in the pages of accounts for more new versions of their rows: a batch changes many of a page's rows in one transaction, and
-- what does not fit goes to another page, with a new entry in the index. Pages that are there stay as they are until a
-- `vacuum full`.
alter table forebay.accounts set (fillfactor = 50);
