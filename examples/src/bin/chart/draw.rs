//! The picture: a column for each share of writes, a row for each of what was measured, a line for each strategy. It
//! has a background of its own, so that it can be read on light and dark pages.

use std::path::Path;

use plotters::{
    chart::ChartBuilder,
    coord::{
        Shift,
        combinators::IntoLogRange,
        ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
    },
    drawing::{DrawingArea, IntoDrawingArea},
    element::{Circle, PathElement, Text},
    prelude::SVGBackend,
    series::LineSeries,
    style::{Color, RGBColor, ShapeStyle, TextStyle, WHITE},
};

use crate::{
    Error,
    data::{Chart, Point, Strategy},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 1080;
const HEAD: u32 = 92;
const ROW: u32 = 216;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// Colours that also people with colour blindness tell apart.
fn colour(strategy: &str) -> RGBColor {
    match strategy {
        "primary-only" => RGBColor(110, 110, 110),
        "replica-first" => RGBColor(213, 94, 0),
        "highwater" => RGBColor(0, 114, 178),
        _ => RGBColor(0, 158, 115),
    }
}

/// One row.
struct Measure {
    title: &'static str,
    value: fn(&Strategy) -> f64,
    /// Percent begin at zero and are drawn as they are; times are drawn by their logarithm.
    percent: bool,
}

const MEASURES: [Measure; 4] = [
    Measure {
        title: "reads off the primary, %",
        value: Strategy::off_primary,
        percent: true,
    },
    Measure {
        title: "median read, ms",
        value: |strategy| milliseconds(strategy.read_p50_us),
        percent: false,
    },
    Measure {
        title: "99th percentile read, ms",
        value: |strategy| milliseconds(strategy.read_p99_us),
        percent: false,
    },
    Measure {
        title: "reads that miss the user's own write, %",
        value: Strategy::stale,
        percent: true,
    },
];

#[expect(clippy::cast_precision_loss, reason = "a time to draw")]
fn milliseconds(micros: u64) -> f64 {
    micros.max(1) as f64 / 1000.0
}

/// Draws it into a file.
pub(crate) fn draw(chart: &Chart, file: &Path) -> Result<(), Error> {
    let rows = u32::try_from(MEASURES.len())?;
    let root = SVGBackend::new(file, (WIDTH, HEAD + rows * ROW)).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD);
    draw_head(chart, &head)?;
    let mut shares: Vec<u64> = chart.points.iter().map(|point| point.write_percent).collect();
    shares.sort_unstable();
    shares.dedup();
    let cells = body.split_evenly((MEASURES.len(), shares.len()));
    for (cell, (measure, share)) in cells.iter().zip(
        MEASURES
            .iter()
            .flat_map(|measure| shares.iter().map(move |share| (measure, *share))),
    ) {
        // One scale a row.
        let highest = chart
            .points
            .iter()
            .flat_map(|point| &point.strategies)
            .map(measure.value)
            .fold(0.0, f64::max);
        let lowest = chart
            .points
            .iter()
            .flat_map(|point| &point.strategies)
            .map(measure.value)
            .fold(f64::INFINITY, f64::min);
        let mut points: Vec<&Point> = chart
            .points
            .iter()
            .filter(|point| point.write_percent == share)
            .collect();
        points.sort_by_key(|point| point.replication_delay_ms);
        let title = format!("{share} % writes: {}", measure.title);
        if measure.percent {
            // At least one percent, so that nothing looks like nothing.
            let top = if highest > 50.0 {
                105.0
            } else {
                (1.1 * highest).max(1.0)
            };
            draw_cell(cell, &title, &points, measure, -0.03 * top..top)?;
        } else {
            draw_cell(
                cell,
                &title,
                &points,
                measure,
                (decade(lowest, f64::floor)..decade(highest, f64::ceil)).log_scale(),
            )?;
        }
    }
    root.present()?;
    Ok(())
}

/// The power of ten below or above: the axis names no others.
fn decade(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

fn draw_head(chart: &Chart, head: &Area<'_>) -> Result<(), Error> {
    let line = |size: u32| TextStyle::from((FONT, size)).color(&INK);
    head.draw(&Text::new(
        "Four ways to read from a primary with two replicas, by how far the replicas are behind",
        (16, 12),
        line(20),
    ))?;
    let of = chart.server.split(" sha=").next().unwrap_or_default();
    head.draw(&Text::new(
        format!(
            "{}: the demo's carts, 32 users, {} s a point; client and servers ({of}) share {} cores. Times on a logarithmic scale.",
            chart.command, chart.seconds, chart.cores
        ),
        (16, 40),
        line(13),
    ))?;
    let strategies = chart
        .points
        .first()
        .map(|point| &point.strategies[..])
        .unwrap_or_default();
    for (place, strategy) in (0..).zip(strategies) {
        let left = 16 + 170 * place;
        let style = ShapeStyle::from(&colour(&strategy.name)).stroke_width(3);
        head.draw(&PathElement::new([(left, 72), (left + 28, 72)], style))?;
        head.draw(&Text::new(strategy.name.clone(), (left + 36, 64), line(16)))?;
    }
    Ok(())
}

fn draw_cell<Y>(
    cell: &Area<'_>,
    title: &str,
    points: &[&Point],
    measure: &Measure,
    range: Y,
) -> Result<(), Error>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let last = i32::try_from(points.len())?.saturating_sub(1).max(1);
    let text = |size: u32| TextStyle::from((FONT, size)).color(&INK);
    let mut context = ChartBuilder::on(cell)
        .margin(8)
        .margin_right(18)
        .caption(title, text(15))
        .x_label_area_size(34)
        .y_label_area_size(44)
        .build_cartesian_2d(0..last, range)?;
    let delay = |place: &i32| {
        usize::try_from(*place)
            .ok()
            .and_then(|place| points.get(place))
            .map_or_else(String::new, |point| point.replication_delay_ms.to_string())
    };
    let number = |value: &f64| {
        if *value < 0.0 {
            String::new()
        } else if *value >= 10.0 || value.fract() == 0.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.1}")
        }
    };
    context
        .configure_mesh()
        .x_labels(points.len())
        .y_labels(5)
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_label_formatter(&delay)
        .y_label_formatter(&number)
        .x_desc("replication delay, ms")
        .axis_desc_style(text(12))
        .label_style(text(12))
        .draw()?;
    let strategies = points
        .first()
        .map(|point| &point.strategies[..])
        .unwrap_or_default();
    for strategy in strategies {
        let style = colour(&strategy.name);
        let line: Vec<(i32, f64)> = (0..)
            .zip(points)
            .filter_map(|(place, point)| {
                let this = point.strategies.iter().find(|one| one.name == strategy.name)?;
                Some((place, (measure.value)(this)))
            })
            .collect();
        context.draw_series(LineSeries::new(line.iter().copied(), style.stroke_width(2)))?;
        context.draw_series(line.iter().map(|at| Circle::new(*at, 3, style.filled())))?;
    }
    Ok(())
}
