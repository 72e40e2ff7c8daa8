//! Taking values out of rows, with our errors.

use forebay_ledger::keys::PublicKey;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::{ErrorKind, SlowError};

/// A row whose values are taken out with our errors.
pub(crate) struct Columns<'a, R = Row> {
    pub(crate) row: &'a R,
    pub(crate) doing: &'a str,
}

/// A row of a query or of a COPY.
pub(crate) trait Values {
    fn value<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T, tokio_postgres::Error>;
}

impl Values for Row {
    fn value<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T, tokio_postgres::Error> {
        self.try_get(index)
    }
}

impl Values for tokio_postgres::binary_copy::BinaryCopyOutRow {
    fn value<'r, T: FromSql<'r>>(&'r self, index: usize) -> Result<T, tokio_postgres::Error> {
        self.try_get(index)
    }
}

impl<'a, R: Values> Columns<'a, R> {
    pub(crate) fn get<T: FromSql<'a>>(&self, index: usize) -> Result<T, SlowError> {
        self.row.value(index).map_err(|error| SlowError::from_postgres(self.doing, error))
    }

    pub(crate) fn corrupt(&self, index: usize) -> SlowError {
        SlowError::new(ErrorKind::Corrupt, self.doing, format!("column {index} cannot be read back"))
    }

    pub(crate) fn fixed<T>(&self, index: usize, read: fn(&[u8]) -> Option<T>) -> Result<T, SlowError> {
        read(self.get::<&[u8]>(index)?).ok_or_else(|| self.corrupt(index))
    }

    pub(crate) fn fixed_or_null<T>(
        &self,
        index: usize,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, SlowError> {
        self.get::<Option<&[u8]>>(index)?
            .map(|bytes| read(bytes).ok_or_else(|| self.corrupt(index)))
            .transpose()
    }

    pub(crate) fn key(&self, index: usize) -> Result<PublicKey, SlowError> {
        self.fixed(index, PublicKey::from_slice)
    }

    /// A list of keys kept as one byte string.
    pub(crate) fn keys(&self, index: usize) -> Result<Option<Vec<PublicKey>>, SlowError> {
        self.get::<Option<&[u8]>>(index)?
            .map(|bytes| self.split(index, bytes, PublicKey::LENGTH, PublicKey::from_slice))
            .transpose()
    }

    pub(crate) fn split<T>(
        &self,
        index: usize,
        bytes: &[u8],
        length: usize,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SlowError> {
        bytes.chunks(length).map(|chunk| read(chunk).ok_or_else(|| self.corrupt(index))).collect()
    }
}
