//! The cache as a tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{NearCache, service::CacheService};
use crate::route::RouteService;

/// Lays the near cache around the route stage.
#[derive(Clone, Debug)]
pub(crate) struct CacheLayer(Arc<NearCache>);

impl CacheLayer {
    pub(crate) fn new(cache: Arc<NearCache>) -> Self {
        Self(cache)
    }
}

impl Layer<RouteService> for CacheLayer {
    type Service = CacheService;

    fn layer(&self, route: RouteService) -> CacheService {
        CacheService::new(Arc::clone(&self.0), route)
    }
}
