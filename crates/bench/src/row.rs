//! One figure and what it is compared with.

use serde::Serialize;

/// One figure, beside the control arm's of the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The part that it belongs to.
    pub part: &'static str,
    /// What exactly was measured.
    pub what: String,
    /// Which transactions.
    pub load: String,
    /// Transactions a block; `None` where there are no blocks.
    pub block_size: Option<u32>,
    /// Accounts with a balance.
    pub accounts: u32,
    /// What Redis keeps on disk.
    pub profile: &'static str,
    /// Ours: the median.
    pub figure: f64,
    /// Of both figures.
    pub unit: &'static str,
    /// What it is compared with; `None`: with nothing.
    pub control: Option<&'static str>,
    /// The control arm's median.
    pub control_figure: Option<f64>,
    /// Ours divided by the control's.
    pub ratio: Option<f64>,
}

impl Row {
    /// The same row with a control arm.
    pub(crate) fn against(&self, control: &'static str, figure: f64) -> Self {
        Self {
            control: Some(control),
            control_figure: Some(figure),
            ratio: (figure > 0.0).then(|| self.figure / figure),
            ..self.clone()
        }
    }
}

/// The middle one; of an even number, the mean of the two in the middle. 0 for none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    if figures.len().is_multiple_of(2) && middle > 0 {
        f64::midpoint(at(middle - 1), at(middle))
    } else {
        at(middle)
    }
}

/// The value below which `share` (0 to 1) of the sorted figures lie. 0 for none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "figures, not amounts")]
pub(crate) fn figure(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn quantiles_stay_within_the_figures() {
        let figures: Vec<f64> = (1..=1000u32).map(f64::from).collect();
        assert_eq!(quantile(&figures, 0.5), 501.0);
        assert_eq!(quantile(&figures, 1.0), 1000.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
